// Command gpx_pscope is the backend of the P-Scope data source. Grafana starts it and speaks to it over its plugin
// protocol.
package main

import (
	"os"

	"github.com/grafana/grafana-plugin-sdk-go/backend/datasource"
	"github.com/grafana/grafana-plugin-sdk-go/backend/log"

	"github.com/p-scope/p-scope/pkg/plugin"
	"github.com/p-scope/p-scope/pkg/plugin/logs"
)

func main() {
	err := datasource.Manage(plugin.ID, plugin.New, datasource.ManageOpts{})
	logs.Flush()
	if err != nil {
		log.DefaultLogger.Error("the plugin ended", "error", err)
		os.Exit(1)
	}
}
