// Package store keeps the metrics of the observed processes on disk and answers PromQL: Prometheus' own database, query engine and
// HTTP API, embedded. See docs/decisions/embedded-prometheus.md.
//
// There are two databases with the same series. "raw" holds a sample every Options.Interval, "coarse" one every Options.Coarse of
// exactly the same values: a day drawn on a thousand pixels reads a fifteenth of the samples, and when the size limit has eaten
// the raw ones, the coarse ones still reach further back. Queries see one database (layers.go).
package store
