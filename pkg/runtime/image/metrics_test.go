package image

import "testing"

func TestSizeClass(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	for size, want := range map[uint64]string{
		0: "N/A", 1: "0-10MB", 10 * mb: "0-10MB", 10*mb + 1: "10MB-100MB", 700 * mb: "500MB-1GB", 2 * gb: "1GB-5GB", 100 * gb: "60GB-100GB", 100*gb + 1: "GT100GB",
	} {
		if got := sizeClass(size); got != want {
			t.Errorf("%d: %s, want %s", size, got, want)
		}
	}
}
