package netdump

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestAListIsMadeAgainUntilItHasNoGaps(t *testing.T) {
	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		interrupted int
		then        error
		want        error
		calls       int
	}{
		"quiet":                     {0, nil, nil, 1},
		"changed twice":             {2, nil, nil, 3},
		"broken":                    {0, broken, broken, 1},
		"changed, and broken then":  {1, broken, broken, 2},
		"changed all the time":      {attempts + 1, nil, netlink.ErrDumpInterrupted, attempts},
		"quiet at the last attempt": {attempts - 1, nil, nil, attempts},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			got, err := Whole(func() ([]int, error) {
				calls++
				if calls <= tt.interrupted {
					return []int{0}, fmt.Errorf("list: %w", netlink.ErrDumpInterrupted)
				}
				return []int{calls}, tt.then
			})
			want := []int{calls}
			if tt.want != nil {
				want = nil
			}
			if !errors.Is(err, tt.want) || calls != tt.calls || !slices.Equal(got, want) {
				t.Errorf("got %v, %v after %d calls; want %v, %v after %d", got, err, calls, want, tt.want, tt.calls)
			}
		})
	}
}
