package store

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// countedBlocks is the number of blocks in which CountSeries counts: the largest ones.
const countedBlocks = 3

// CountSeries gives the number of series that match in the head, or in one of the largest blocks. It takes the largest
// of these numbers. The true number is larger where series have ended.
func (s *Store) CountSeries(ctx context.Context, ms ...*labels.Matcher) (n int, err error) {
	for _, db := range []*database{s.raw, s.coarse} {
		for _, b := range db.readers(countedBlocks) {
			found, err := countIn(ctx, b, ms)
			if err != nil {
				return 0, err
			}
			n = max(n, found)
		}
	}
	return n, nil
}

// CountLabelValues gives the number of values that a label has in the head, or in the largest block. The larger of the
// two counts.
func (s *Store) CountLabelValues(ctx context.Context, name string) (n int) {
	for _, db := range []*database{s.raw, s.coarse} {
		for _, b := range db.readers(1) {
			ix, err := b.Index()
			if err != nil {
				continue // the block is being dropped
			}
			if values, err := ix.LabelValues(ctx, name, nil); err == nil {
				n = max(n, len(values))
			}
			_ = ix.Close()
		}
	}
	return n
}

// readers gives the head and the n largest blocks.
func (d *database) readers(n int) []tsdb.BlockReader {
	readers := []tsdb.BlockReader{d.db.Head()}
	for _, b := range largest(d.db.Blocks(), n) {
		readers = append(readers, b)
	}
	return readers
}

// largest gives the n blocks with the most series.
func largest(blocks []*tsdb.Block, n int) (out []*tsdb.Block) {
	for _, b := range blocks {
		out = append(out, b)
		for i := len(out) - 1; i > 0 && out[i].Meta().Stats.NumSeries > out[i-1].Meta().Stats.NumSeries; i-- {
			out[i], out[i-1] = out[i-1], out[i]
		}
		out = out[:min(len(out), n)]
	}
	return out
}

// countIn gives the number of series of a block that match.
func countIn(ctx context.Context, b tsdb.BlockReader, ms []*labels.Matcher) (n int, err error) {
	ix, err := b.Index()
	if err != nil {
		return 0, nil // the block is being dropped
	}
	defer ix.Close()
	p, err := tsdb.PostingsForMatchers(ctx, ix, ms...)
	if err != nil {
		return 0, err
	}
	for p.Next() {
		n++
	}
	return n, p.Err()
}
