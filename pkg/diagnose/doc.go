// Package diagnose says in sentences what is worth knowing about a target's Ps over a range of time: imbalance,
// overload, idle Ps while others queue, uninterruptible sleep, waiting for a CPU or for a CPU quota, being stopped or
// frozen from outside, stops. Every finding carries the number it rests on and advice.
//
// Findings are pure functions of a Window: the totals of every P at its beginning and at its end, plus the stops
// between. The History keeps such totals every ten seconds, so a range is answered as exactly as ten seconds allow, and
// says which range it really covers.
package diagnose
