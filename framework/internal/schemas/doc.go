// Package schemas reads the schemas that instances publish in a registry, compares them
// with the program's own, and describes their rules.
package schemas
