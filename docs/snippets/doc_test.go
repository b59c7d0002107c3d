// Package snippets has the Go code that the pages of docs show, so that it is compiled and
// run. internal/pages compares the pages with it.
package snippets_test
