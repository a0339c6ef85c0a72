package docker

import "testing"

func TestOOMScoreIsRaisedToWhatDockerCanGive(t *testing.T) {
	p := &Privileges{LowestOOMScore: -500}
	for wanted, want := range map[int]int{-998: -500, -500: -500, 0: 0, 1000: 1000} {
		if got := p.OOMScore(wanted); got != want {
			t.Errorf("OOMScore(%d) = %d, want %d", wanted, got, want)
		}
	}
}
