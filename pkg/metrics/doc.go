// Package metrics turns views of targets into the metrics of P-Scope's public contract, for two readers: the exposition
// on /metrics (text, OpenMetrics and protobuf) and the embedded time series database.
//
// Both walk the same list of families (families.go), each with a cache of its own, so that nothing but numbers is made
// anew from one second to the next. What is not known is absent: no metric says zero where nothing was measured.
package metrics
