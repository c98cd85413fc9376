package api

import (
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// frequency shares one reading of the CPU frequencies between the history, scrapes and the list of lacks.
type frequency struct {
	mu   sync.Mutex
	from *metrics.FrequencyReader
	at   time.Time
	cpus []metrics.CPUFrequency
	err  error
}

// frequencyAge is how old a reading may be.
const frequencyAge = 500 * time.Millisecond

func (f *frequency) read(now time.Time) ([]metrics.CPUFrequency, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.at) > frequencyAge {
		f.at = now
		f.cpus, f.err = f.from.Read(now)
	}
	return f.cpus, f.err
}
