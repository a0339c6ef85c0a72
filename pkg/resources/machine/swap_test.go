package machine

import "testing"

func TestParseSwaps(t *testing.T) {
	const head = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for name, tt := range map[string]struct {
		text  string
		total int64
		on    bool
	}{
		"none":                  {head, 0, false},
		"nothing":               {"", 0, false},
		"two places":            {head + "/dev/sda2   partition\t1024\t\t5\t\t-2\n/my\\040swap file 2048 0 -3\n", 3 << 20, true},
		"a file that was taken": {head + "/swap (deleted) file 1024 0 -2\n", 1 << 20, true},
		"a line that is none":   {head + "x\n", 0, true},
	} {
		if total, on := parseSwaps([]byte(tt.text)); total != tt.total || on != tt.on {
			t.Errorf("%s: %d, %v, want %d, %v", name, total, on, tt.total, tt.on)
		}
	}
}
