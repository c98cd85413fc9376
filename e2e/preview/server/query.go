package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/gtime"
)

// queryRequest is the body @grafana/runtime posts to /api/ds/query. From and To are milliseconds since the epoch, or
// "now", "now-5m".
type queryRequest struct {
	Queries []json.RawMessage `json:"queries"`
	From    string            `json:"from"`
	To      string            `json:"to"`
}

// queryHead is the part of a query that Grafana itself reads.
type queryHead struct {
	RefID         string  `json:"refId"`
	QueryType     string  `json:"queryType"`
	MaxDataPoints int64   `json:"maxDataPoints"`
	IntervalMS    float64 `json:"intervalMs"`
	Datasource    struct {
		UID string `json:"uid"`
	} `json:"datasource"`
}

// parse returns the queries of each data source by uid.
func (r queryRequest) parse(now time.Time) (map[string][]backend.DataQuery, error) {
	span := gtime.NewTimeRange(r.From, r.To)
	from, err := span.ParseFrom(gtime.WithNow(now))
	if err != nil {
		return nil, fmt.Errorf("the start of the time range, %q, can't be read: %w", r.From, err)
	}
	to, err := span.ParseTo(gtime.WithNow(now))
	if err != nil {
		return nil, fmt.Errorf("the end of the time range, %q, can't be read: %w", r.To, err)
	}
	if len(r.Queries) == 0 {
		return nil, fmt.Errorf("the request holds no query")
	}
	out := map[string][]backend.DataQuery{}
	for i, raw := range r.Queries {
		var head queryHead
		if err := json.Unmarshal(raw, &head); err != nil {
			return nil, fmt.Errorf("query %d: %w", i, err)
		}
		if head.RefID == "" {
			head.RefID = "A"
		}
		// Grafana's own defaults for a request that names neither.
		if head.MaxDataPoints <= 0 {
			head.MaxDataPoints = 100
		}
		if head.IntervalMS <= 0 {
			head.IntervalMS = 1000
		}
		out[head.Datasource.UID] = append(out[head.Datasource.UID], backend.DataQuery{
			RefID:         head.RefID,
			QueryType:     head.QueryType,
			MaxDataPoints: head.MaxDataPoints,
			Interval:      time.Duration(head.IntervalMS * float64(time.Millisecond)),
			TimeRange:     backend.TimeRange{From: from, To: to},
			JSON:          raw,
		})
	}
	return out, nil
}

// queryHeaders passes on what Grafana passes on: the origin of the request, and whether an alert rule asks.
func queryHeaders(in http.Header) map[string]string {
	out := map[string]string{}
	for _, name := range []string{"FromAlert", "X-Dashboard-Uid", "X-Panel-Id", "X-Datasource-Uid", "X-Plugin-Id"} {
		if v := in.Get(name); v != "" {
			if name != "FromAlert" {
				name = "http_" + name
			}
			out[name] = v
		}
	}
	return out
}

// serveQuery answers POST /api/ds/query: 200, or 400 when any query of the request failed, with the same body as
// Grafana's.
func (s *server) serveQuery(w http.ResponseWriter, r *http.Request) {
	var body queryRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 8<<20)).Decode(&body); err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("the query request is not valid JSON: %w", err))
		return
	}
	byUID, err := body.parse(time.Now())
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	client, err := s.host.Client(r.Context(), pluginStartWait)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	all := backend.NewQueryDataResponse()
	status := http.StatusOK
	for uid, queries := range byUID {
		pctx, err := s.pluginContext(uid)
		if err != nil {
			writeError(w, http.StatusNotFound, err)
			return
		}
		answer, err := client.data.QueryData(r.Context(), backend.ToProto().QueryDataRequest(&backend.QueryDataRequest{
			PluginContext: pctx, Headers: queryHeaders(r.Header), Queries: queries,
		}))
		if err != nil {
			writeError(w, http.StatusInternalServerError, fmt.Errorf("the plugin failed to answer: %w", err))
			return
		}
		decoded, err := backend.FromProto().QueryDataResponse(answer)
		if err != nil {
			writeError(w, http.StatusInternalServerError, fmt.Errorf("the plugin's answer can't be decoded: %w", err))
			return
		}
		for refID, response := range decoded.Responses {
			if response.Error != nil {
				status = http.StatusBadRequest
			}
			all.Responses[refID] = response
		}
	}
	writeJSON(w, status, all)
}

// serveHealth answers GET .../health: 200 when healthy, else 400 with the plugin's message and details.
func (s *server) serveHealth(w http.ResponseWriter, r *http.Request) {
	pctx, err := s.pluginContext(r.PathValue("uid"))
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	client, err := s.host.Client(r.Context(), pluginStartWait)
	if err != nil {
		writeError(w, http.StatusServiceUnavailable, err)
		return
	}
	answer, err := client.diagnostics.CheckHealth(r.Context(), healthRequest(pctx))
	if err != nil {
		writeError(w, http.StatusInternalServerError, fmt.Errorf("the plugin failed to check its health: %w", err))
		return
	}
	result := backend.FromProto().CheckHealthResponse(answer)
	body := map[string]any{"status": result.Status.String(), "message": result.Message}
	if len(result.JSONDetails) > 0 {
		var details map[string]any
		if err := json.Unmarshal(result.JSONDetails, &details); err != nil {
			writeError(w, http.StatusInternalServerError,
				fmt.Errorf("the plugin's health details are not a JSON object: %w", err))
			return
		}
		body["details"] = details
	}
	status := http.StatusOK
	if result.Status != backend.HealthStatusOk {
		status = http.StatusBadRequest
	}
	w.Header().Set("X-Plugin-Starts", strconv.Itoa(s.pluginStarts()))
	writeJSON(w, status, body)
}
