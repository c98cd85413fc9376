package loss

import (
	"os"
	"regexp"
	"slices"
	"testing"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// The runbook explains every reason, and none besides.
func TestTheRunbookExplainsEveryReason(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbooks/pscope-lost-events.md")
	if err != nil {
		t.Fatal(err)
	}
	var explained []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllSubmatch(page, -1) {
		for _, name := range regexp.MustCompile("`(\\w+)`").FindAllSubmatch(row[1], -1) {
			explained = append(explained, string(name[1]))
		}
	}
	want := Reasons()
	slices.Sort(explained)
	slices.Sort(want)
	if !slices.Equal(explained, want) {
		t.Errorf("the runbook explains %q, there are %q", explained, want)
	}
}

func TestWhatIsMeantToBeLost(t *testing.T) {
	want := []string{IntervalBudget, SamplesMissed, EndedBeforeObserved, EndedBeforeRead, SlowReader, SlowReaderStops}
	got := slices.DeleteFunc(Reasons(), func(reason string) bool { return !IsMeant(reason) })
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDroppedIntervals(t *testing.T) {
	const at = 1_700_000_000e9
	words := &pb.Loss{Reason: "not held before 2023-11-14T22:13:20Z", Count: 1}
	for name, c := range map[string]struct {
		r    *pb.IntervalsResponse
		want bool
	}{
		"nothing is dropped": {&pb.IntervalsResponse{Lost: []*pb.Loss{{Reason: RingFull, Count: 1}}},
			false},
		"an agent of the version before": {&pb.IntervalsResponse{Lost: []*pb.Loss{words}}, true},
		"an agent of this version":       {&pb.IntervalsResponse{HeldFromUnixNano: at, Lost: []*pb.Loss{words}}, true},
		"an agent without the words":     {&pb.IntervalsResponse{HeldFromUnixNano: at}, true},
	} {
		if got := Dropped(c.r); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if n, said := Of(c.r)[words.Reason]; said != c.want || said && n != 1 {
			t.Errorf("%s: said %d times (%v)", name, n, said)
		}
	}
}
