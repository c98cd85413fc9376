package frames

import (
	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// Diagnosis is one row per finding, the gravest first: how grave, what, whose, which Ps (empty: the whole process), the
// evidence, the number behind it and what to do.
func Diagnosis(findings []*pscopev1.Finding) *data.Frame {
	type row = *pscopev1.Finding
	return table(
		column("severity", findings, row.GetSeverity),
		column("kind", findings, row.GetKind),
		column("process", findings, row.GetProcess),
		unit(column("pid", findings, func(f row) int32 { return f.GetKey().GetPid() }), "none"),
		column("ps", findings, func(f row) string { return query.FormatPs(f.GetPs()) }),
		column("evidence", findings, row.GetEvidence),
		column("advice", findings, row.GetAdvice),
		column("value", findings, row.GetValue),
		column("host", findings, row.GetHost),
	)
}
