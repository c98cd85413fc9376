// Package packages holds what the agent's packages are made of; its tests install, upgrade, go back, remove and purge
// them.
package packages
