// Package monitoring has a dashboard for Grafana and alert rules for Prometheus, and their
// tests. It is a module of its own, so that nothing else depends on Prometheus, whose
// parser and engine the tests use.
package monitoring
