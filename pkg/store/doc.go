// Package store keeps the metrics of the observed processes on disk, in Prometheus' own database. Package promapi
// answers PromQL over it. See docs/decisions/embedded-prometheus.md.
//
// There are two databases with the same series. "raw" holds a sample every Options.Interval. "coarse" holds one every
// Options.Coarse, with exactly the same values. A day drawn on a thousand pixels then reads a fifteenth of the samples.
// When the size limit has removed the raw samples, the coarse ones still reach further back. Queries see one database:
// see both.go.
package store
