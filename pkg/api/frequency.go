package api

import (
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/cpufreq"
)

// frequency shares one reading of the CPU frequencies between the history, scrapes and the list of lacks.
type frequency struct {
	mu   sync.Mutex
	from *cpufreq.Reader
	at   time.Time
	cpus []cpufreq.CPU
	err  error
}

// frequencyAge is how old a reading may be.
const frequencyAge = 500 * time.Millisecond

func (f *frequency) read(now time.Time) ([]cpufreq.CPU, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.at) > frequencyAge {
		f.at = now
		f.cpus, f.err = f.from.Read(now)
	}
	return f.cpus, f.err
}
