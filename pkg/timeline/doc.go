// Package timeline keeps raw intervals and stops in a bounded ring in memory, per target, so that the last minutes can
// be drawn exactly. Collectors append, the API queries; a slow reader holds a cursor and never a queue.
//
// Nothing leaves the ring silently: Result.HeldFrom says from when on it is complete, Since counts what a reader
// missed, and what was never recorded is counted by reason (Lost).
package timeline
