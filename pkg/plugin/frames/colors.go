package frames

import (
	"slices"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// The colours of the states: Okabe and Ito's palette, and wine of Paul Tol's, which stay readable with every kind of
// colour blindness.
var (
	stateColors = map[pstate.State]string{
		pstate.Running: "#009E73", pstate.GC: "#CC79A7", pstate.Syscall: "#56B4E9", pstate.Idle: "#7A7F87",
		pstate.GCStop: "#E69F00",
		pstate.Dead:   "#3D4045",
	}
	threadColors = map[pstate.ThreadState]string{
		pstate.OnCPU: "#009E73", pstate.Runnable: "#F0E442", pstate.Sleeping: "#7A7F87",
		pstate.Uninterruptible: "#D55E00",
		pstate.Stopped:         "#882255", pstate.Frozen: "#0072B2", pstate.NoThread: "#3D4045",
	}
)

// StateColor is the colour of a P state.
func StateColor(s pstate.State) string { return stateColors[s] }

// ThreadStateColor is the colour of a thread state.
func ThreadStateColor(s pstate.ThreadState) string { return threadColors[s] }

// A Shade is what a timeline paints at one moment: an index into the enum of its field.
type Shade = data.EnumItemIndex

// A Palette turns states into shades.
type Palette struct {
	text, color []string
	rare        []bool // of each shade
	shade       func(pstate.State, pstate.ThreadState) Shade
}

func (p *Palette) add(text, color string, rare bool) {
	p.text, p.color, p.rare = append(p.text, text), append(p.color, color), append(p.rare, rare)
}

// config is the enum that Grafana's state timeline paints by.
func (p Palette) config() *data.FieldTypeConfig {
	return &data.FieldTypeConfig{Enum: &data.EnumFieldConfig{Text: p.text, Color: p.color}}
}

// Shade of a P in a state, carried by a thread in a state.
func (p Palette) Shade(s pstate.State, ts pstate.ThreadState) Shade { return p.shade(s, ts) }

// Rare is true for a shade that must stay visible however short it is: the world stopped, or uninterruptible sleep.
func (p Palette) Rare(s Shade) bool {
	return int(s) < len(p.rare) && p.rare[s]
}

// Covering are the thread states that are painted over P states: a P whose thread is in D, stopped or frozen still
// counts as running, which is what hides the trouble everywhere else.
func Covering() []pstate.ThreadState {
	return slices.DeleteFunc(pstate.ThreadStates(), func(s pstate.ThreadState) bool {
		return !s.Rare() &&
			!s.Suspended()
	})
}

// StatePalette paints P states, and over them uninterruptible sleep and being stopped or frozen.
func StatePalette() Palette {
	var p Palette
	index := map[pstate.State]Shade{}
	for _, s := range pstate.States() {
		index[s] = Shade(len(p.text))
		p.add(s.String(), stateColors[s], s.Rare())
	}
	over := map[pstate.ThreadState]Shade{}
	for _, ts := range Covering() {
		over[ts] = Shade(len(p.text))
		p.add(ts.String(), threadColors[ts], ts.Rare())
	}
	p.shade = func(s pstate.State, ts pstate.ThreadState) Shade {
		if shade, ok := over[ts]; ok {
			return shade
		}
		return index[s]
	}
	return p
}

// Uncover takes what threads were stopped or frozen for out of the P states under it, for a sum of times by state and
// by thread state: it is in both.
func (p Palette) Uncover(held *Held) {
	for _, ts := range []pstate.ThreadState{pstate.Stopped, pstate.Frozen} {
		over := p.shade(pstate.Running, ts)
		if over == p.shade(pstate.Running, pstate.NoThread) || over == p.shade(pstate.Idle,
			ts) && over == p.shade(pstate.Idle, pstate.NoThread) {
			continue
		}
		left := held[over]
		for _, s := range pstate.States() {
			if under := p.shade(s, pstate.NoThread); s.Busy() && under != over {
				n := min(left, held[under])
				held[under] -= n
				left -= n
			}
		}
	}
}

// ThreadPalette paints thread states.
func ThreadPalette() Palette {
	var p Palette
	index := map[pstate.ThreadState]Shade{}
	for _, s := range pstate.ThreadStates() {
		index[s] = Shade(len(p.text))
		p.add(s.String(), threadColors[s], s.Rare())
	}
	p.shade = func(_ pstate.State, ts pstate.ThreadState) Shade { return index[ts] }
	return p
}
