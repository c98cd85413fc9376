// Package loss names the reasons for which something is missing from an agent's picture: the label `reason` of
// pscope_lost_events_total, and pscope.v1.Loss.reason. docs/runbooks/pscope-lost-events.md says what each one means.
package loss

import (
	"regexp"
	"strings"
	"time"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// The reasons that the kernel side counts.
const (
	RingFull       = "ring_full"
	IntervalBudget = "interval_budget"
	ThreadsFull    = "threads_full"
	ReadFault      = "read_fault"
	Contended      = "contended"
	NoSlot         = "no_slot"
	BadMemory      = "bad_memory"
	LastPForgotten = "last_p_forgotten"
	SamplesMissed  = "samples_missed"
	ProgramsNotRun = "programs_not_run"
)

// The reasons that the collector counts.
const (
	NoRoom              = "no_room"
	TornSnapshot        = "torn_snapshot"
	UnreadableP         = "unreadable_p"
	LateInterval        = "late_interval"
	PendingFull         = "pending_full"
	BadEvent            = "bad_event"
	EndedTarget         = "ended_target"
	AgentPaused         = "agent_paused"
	EndedBeforeObserved = "ended_before_observed"
	EndedBeforeRead     = "ended_before_read"
	FileNoAnswer        = "file_no_answer"
	RoomGiven           = "room_given"
)

// The reasons that the API counts.
const (
	TimelineOutOfOrder = "timeline_out_of_order"
	SlowReader         = "slow_reader"
	SlowReaderStops    = "slow_reader_stops"
)

// The reasons that the history counts.
const (
	HistoryDiskFull      = "history_disk_full"
	HistoryRefused       = "history_refused"
	HistoryBehind        = "history_behind_seconds"
	HistoryDamagedPages  = "history_damaged_pages"
	HistoryDamagedBlocks = "history_damaged_blocks"
	HistoryClockBack     = "history_clock_back"
	TargetLeftOut        = "target_left_out"
)

// Reasons lists all of them.
func Reasons() []string {
	return []string{
		RingFull, IntervalBudget, ThreadsFull, ReadFault, Contended, NoSlot, BadMemory, LastPForgotten, SamplesMissed,
		ProgramsNotRun, NoRoom, TornSnapshot, UnreadableP, LateInterval, PendingFull, BadEvent, EndedTarget,
		AgentPaused,
		EndedBeforeObserved, EndedBeforeRead, FileNoAnswer, RoomGiven, TimelineOutOfOrder, SlowReader, SlowReaderStops,
		HistoryDiskFull, HistoryRefused, HistoryBehind, HistoryDamagedPages, HistoryDamagedBlocks, HistoryClockBack,
		TargetLeftOut,
	}
}

// Meant matches the reasons that are in the nature of things and raise no alert: going over the budget of raw intervals
// and skipping what a slow viewer can't take are meant to be, programs of a moment end before anybody can look, and
// samples that a virtual machine misses are made up for.
const Meant = "ended_before_.*|interval_budget|samples_missed|slow_reader.*"

var meant = regexp.MustCompile("^(?:" + Meant + ")$")

// IsMeant says whether Meant matches a reason.
func IsMeant(reason string) bool { return meant.MatchString(reason) }

// notHeld begins the reason by which an agent of the version before says from when on it holds raw intervals.
const notHeld = "not held before "

// NotHeldBefore is IntervalsResponse.held_from_unix_nano in words. Agents still put it among the reasons, for plugins
// of the version before, which know nothing else.
func NotHeldBefore(unixNano int64) string {
	return notHeld + time.Unix(0, unixNano).UTC().Format(time.RFC3339)
}

// Dropped says whether an agent has given up intervals of the range that it was asked for.
func Dropped(r *pb.IntervalsResponse) bool {
	if r.GetHeldFromUnixNano() > 0 {
		return true
	}
	for _, l := range r.GetLost() {
		if strings.HasPrefix(l.GetReason(), notHeld) {
			return true
		}
	}
	return false
}

// Of is what an answer misses, by reason; dropped intervals are among them in words.
func Of(r *pb.IntervalsResponse) map[string]uint64 {
	lost := map[string]uint64{}
	for _, l := range r.GetLost() {
		lost[l.GetReason()] += l.GetCount()
	}
	if at := r.GetHeldFromUnixNano(); at > 0 {
		lost[NotHeldBefore(at)] = 1
	}
	return lost
}
