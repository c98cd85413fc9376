// Package query holds what a panel, an alert rule or a variable may ask of P-Scope: the saved model, its migration and
// validation, the PromQL it becomes, and the path of the live channel that continues it. It talks to nobody.
package query
