package timequeue

import (
	"slices"
	"testing"
	"time"
)

func TestQueue(t *testing.T) {
	var q Queue[string]
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, s := range []struct {
		key   string
		at    int
		first bool
	}{{"a", 3, true}, {"b", 1, true}, {"c", 2, false}, {"a", 0, true}, {"d", 1, false}, {"a", 1, false}} { // the last value counts
		if got := q.Set(s.key, at(s.at)); got != s.first && s.key != "a" {
			t.Errorf("Set(%s, %d) = %v", s.key, s.at, got)
		}
	}
	q.Forget("d")
	q.Forget("unknown")
	for _, take := range []struct {
		now  int
		want []string
		next time.Time
	}{{0, nil, at(1)}, {1, []string{"a", "b"}, at(2)}, {9, []string{"c"}, time.Time{}}, {9, nil, time.Time{}}} {
		got, next := q.Take(at(take.now))
		slices.Sort(got)
		if !slices.Equal(got, take.want) || !next.Equal(take.next) {
			t.Errorf("Take(%d) = %v and %v, want %v and %v", take.now, got, next, take.want, take.next)
		}
	}
	if q.Len() != 0 {
		t.Errorf("%d are left", q.Len())
	}
}

func TestEarliestFirst(t *testing.T) {
	var q Queue[int]
	for _, n := range []int{5, 3, 9, 1, 7, 2} {
		q.Set(n, time.Unix(int64(n), 0))
	}
	q.Forget(3)
	if got, _ := q.Take(time.Unix(9, 0)); !slices.Equal(got, []int{1, 2, 5, 7, 9}) {
		t.Errorf("Take = %v", got)
	}
}
