// Package container tests the agent in real containers, with what deploy/ gives it there.
package container
