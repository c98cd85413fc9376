package plugin

import (
	"context"
	"errors"
	"fmt"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// classify says whose fault an error is. What users and agents can mend is downstream and doesn't count against the
// plugin.
func classify(err error) (backend.Status, backend.ErrorSource) {
	var queryErr *query.Error
	var agentErr *agent.Error
	var none *agent.NoAgent
	var settingsErr *settings.Error
	switch {
	case errors.As(err, &queryErr), errors.As(err, &settingsErr):
		return backend.StatusBadRequest, backend.ErrorSourceDownstream
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return backend.StatusTimeout, backend.ErrorSourceDownstream
	case errors.As(err, &agentErr) && agentErr.Refused:
		return backend.StatusBadRequest, backend.ErrorSourceDownstream
	case errors.As(err, &agentErr), errors.As(err, &none):
		return backend.StatusBadGateway, backend.ErrorSourceDownstream
	}
	return backend.StatusInternal, backend.ErrorSourcePlugin
}

// failure answers a query with an error.
func failure(err error) backend.DataResponse {
	status, source := classify(err)
	return backend.ErrDataResponseWithSource(status, source, err.Error())
}

// sourced marks an error for the SDK's own accounting.
func sourced(err error) error {
	if _, source := classify(err); source == backend.ErrorSourceDownstream {
		return backend.DownstreamErrorf("%w", err)
	}
	return backend.NewErrorWithSource(fmt.Errorf("P-Scope plugin: %w", err), backend.ErrorSourcePlugin)
}
