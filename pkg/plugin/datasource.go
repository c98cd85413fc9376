// Package plugin is the backend of the P-Scope data source: one handler a file, and one file for each kind of answer.
// It holds no collector and imports nothing of BPF: what Ps do it learns from agents.
package plugin

import (
	"context"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/instancemgmt"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/live"
	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// ID is the plugin's id, as plugin.json has it.
const ID = "pscope-pscope-datasource"

// Datasource is one configured data source. Grafana makes a new one whenever the settings change and disposes of the
// old.
type Datasource struct {
	uid string
	set *agent.Set
	hub *live.Hub
	// broken says why the settings can't be used; then nothing else is set.
	broken error

	resources backend.CallResourceHandler
	channels  *channels
}

var (
	_ backend.QueryDataHandler      = (*Datasource)(nil)
	_ backend.CheckHealthHandler    = (*Datasource)(nil)
	_ backend.CallResourceHandler   = (*Datasource)(nil)
	_ backend.StreamHandler         = (*Datasource)(nil)
	_ instancemgmt.InstanceDisposer = (*Datasource)(nil)
)

// New makes a data source from its settings. Settings that can't be used are no error here: every handler then says
// what is wrong with them, where Grafana would only say that the plugin failed.
func New(_ context.Context, s backend.DataSourceInstanceSettings) (instancemgmt.Instance, error) {
	d := &Datasource{uid: s.UID, channels: newChannels()}
	d.resources = d.newResources()
	conf, err := settings.Load(s)
	if err != nil {
		d.broken = err
		return d, nil
	}
	if d.set, err = agent.NewSet(conf); err != nil {
		d.broken = err
		return d, nil
	}
	d.hub = live.NewHub()
	return d, nil
}

// Dispose ends everything the data source started.
func (d *Datasource) Dispose() {
	if d.hub != nil {
		d.hub.Close()
	}
	if d.set != nil {
		d.set.Close()
	}
}
