// Package api is the agent's face: the pscope.v1 service over gRPC, gRPC-Web (binary and text) and Connect, /metrics,
// the Prometheus HTTP API over the embedded history, and health, all on one TCP port and on a unix socket.
//
// An agent makes a Server with NewServer, which binds the listeners, so that a taken port is an error at once, and runs
// it with Serve.
package api
