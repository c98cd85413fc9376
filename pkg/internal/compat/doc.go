// Package compat holds no code: its tests run the agent, the plugin and the tools of the last release against those of
// this source tree, both ways. During an upgrade hosts and Grafana are one version apart.
package compat
