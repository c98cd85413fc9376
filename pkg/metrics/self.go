package metrics

// What the calling process uses of the machine, by metric name; the names are those every Prometheus client gives them.
const (
	selfCPU    = "process_cpu_seconds_total"
	selfMemory = "process_resident_memory_bytes"
	selfFiles  = "process_open_fds"
	selfStart  = "process_start_time_seconds"
)

// self is a family of the agent as a process.
func self(f Family) family {
	return family{Family: f, agent: func(w *walk, snap *Snapshot) {
		if v, ok := snap.Self[f.Name]; ok {
			w.agentFloat(v)
		}
	}}
}
