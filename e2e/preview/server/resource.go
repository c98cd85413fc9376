package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
)

// Headers that belong to one hop, or that Grafana keeps from plugins and from pages.
var droppedHeaders = map[string]bool{
	"Connection": true, "Keep-Alive": true, "Proxy-Authenticate": true, "Proxy-Authorization": true, "Te": true,
	"Trailer":           true,
	"Transfer-Encoding": true, "Upgrade": true, "Cookie": true, "Set-Cookie": true, "Content-Length": true,
}

// serveResource passes a request to the plugin's CallResource and each chunk of the answer on the moment it comes. The
// request body is read whole first, as in Grafana; a browser that goes away ends the plugin's context.
func (s *server) serveResource(w http.ResponseWriter, r *http.Request) {
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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
	if err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("reading the request body: %w", err))
		return
	}
	path := r.PathValue("path")
	url := path
	if r.URL.RawQuery != "" {
		url += "?" + r.URL.RawQuery
	}
	headers := map[string]*pluginv2.StringList{}
	for name, values := range r.Header {
		if !droppedHeaders[name] {
			headers[name] = &pluginv2.StringList{Values: values}
		}
	}
	stream, err := client.resource.CallResource(r.Context(), &pluginv2.CallResourceRequest{
		PluginContext: toProtoContext(pctx), Path: path, Method: r.Method, Url: url, Headers: headers, Body: body,
	})
	if err != nil {
		writeError(w, http.StatusInternalServerError, fmt.Errorf("the plugin failed to answer %s: %w", path, err))
		return
	}
	control := http.NewResponseController(w)
	for first := true; ; first = false {
		chunk, err := stream.Recv()
		if err == io.EOF || r.Context().Err() != nil {
			return
		}
		if err != nil {
			if first {
				writeError(w, http.StatusInternalServerError, fmt.Errorf("the plugin failed to answer %s: %w", path,
					err))
				return
			}
			// The status line is out: only breaking the connection tells the page that the answer is not whole.
			s.log.Warn("a streamed answer broke off", "path", path, "error", err)
			panic(http.ErrAbortHandler)
		}
		if first {
			for name, list := range chunk.Headers {
				if !droppedHeaders[http.CanonicalHeaderKey(name)] {
					w.Header()[http.CanonicalHeaderKey(name)] = list.Values
				}
			}
			w.Header().Set("Content-Security-Policy", "sandbox")
			w.Header().Set("X-Accel-Buffering", "no")
			w.WriteHeader(statusOr200(chunk.Code))
		}
		if _, err := w.Write(chunk.Body); err != nil {
			return
		}
		if err := control.Flush(); err != nil && !strings.Contains(err.Error(), "not supported") {
			return
		}
	}
}

func statusOr200(code int32) int {
	if code == 0 {
		return http.StatusOK
	}
	return int(code)
}
