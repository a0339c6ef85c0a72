package docker

import "testing"

func TestProgressInWords(t *testing.T) {
	for want, p := range map[string]Progress{
		"":                                      {},
		"1 of 5 layers":                         {Ready: 1, Known: 5},
		"34 of 120 MB, 3 of 5 layers":           {Done: 34e6, Total: 120e6, Ready: 3, Known: 5},
		"0.3 of at least 1.5 MB, 0 of 2 layers": {Done: 3e5, Total: 15e5, More: true, Known: 2},
		"7 of 999 bytes, 0 of 1 layers":         {Done: 7, Total: 999, Known: 1},
		"12 of 4000 GB, 0 of 1 layers":          {Done: 12e9, Total: 4e12, Known: 1},
		"all 1.0 kB, 4 of 5 layers unpacked":    {Done: 1000, Total: 1000, Ready: 4, Known: 5},
		"120 of at least 120 MB, 3 of 5 layers": {Done: 120e6, Total: 120e6, More: true, Ready: 3, Known: 5},
	} {
		if got := p.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
