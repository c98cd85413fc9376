package layout

import "github.com/p-scope/p-scope/pkg/goruntime/binary"

// typeNames are the types of the runtime that a Layout describes.
var typeNames = []string{"runtime.g", "runtime.m", "runtime.p", "runtime.schedt"}

// FromDWARF reads the layout from the debugging information of a program.
func FromDWARF(f *binary.File) (*Layout, error) {
	l := new(Layout)
	if err := f.RuntimeStructs(typeNames, l.fill); err != nil {
		return nil, err
	}
	return l, nil
}

// fill takes every field from the types. A field that does not exist becomes Absent.
func (l *Layout) fill(s *binary.Structs) error {
	l.Visit(func(typeName string, alternatives []string, _ bool, dst *int32) {
		if alternatives == nil {
			*dst = s.Size(typeName)
			return
		}
		*dst = Absent
		for _, path := range alternatives {
			if off, ok := s.Offset(typeName, path); ok {
				*dst = off
				return
			}
		}
	})
	return nil
}
