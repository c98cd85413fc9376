// Package agent talks to the places that know what Ps do: P-Scope agents, over their unix socket or over TCP, and
// Prometheus-compatible engines. One data source may have many agents; Set asks all of them at once and keeps going
// when some are away. It loads no BPF and needs no privileges.
package agent
