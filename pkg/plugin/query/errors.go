package query

// Error is a query that can't be answered as it stands. Its text says what is wrong, why, and what to do next.
type Error struct {
	Field string // the field of the query at fault, as saved; empty when it is the query as a whole
	What  string
	Why   string
	Next  string
}

// Error joins the three parts into sentences.
func (e *Error) Error() string {
	s := e.What
	if e.Why != "" {
		s += ": " + e.Why
	}
	if e.Next != "" {
		s += ". " + e.Next
	}
	return s
}
