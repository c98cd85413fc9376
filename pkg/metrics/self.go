package metrics

// self is a family of the agent as a process.
func self(f Family) family {
	return family{Family: f, agent: func(w *walk, snap *Snapshot) {
		if v, ok := snap.Self[f.Name]; ok {
			w.agentFloat(v)
		}
	}}
}
