// Package deploytest checks the files of deploy/ as far as that goes without a cluster and without a Grafana.
package deploytest
