// Package promapi answers the Prometheus HTTP API over a database in this process, with Prometheus' own query engine.
//
// A query gets a share of the memory before it begins (budget.go), by an estimate of what it will hold (cost.go). A
// range query that is too large is evaluated a part of the range at a time (pieces.go). Answers leave in parts, and the
// reader has a deadline for each (answer.go). See docs/decisions/embedded-prometheus.md.
package promapi
