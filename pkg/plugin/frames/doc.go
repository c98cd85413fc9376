// Package frames builds the data frames that queries are answered with. Its functions are pure: values in, frames out.
// The shapes are those that Grafana's panels and alert rules take as they are; one file a kind.
package frames
