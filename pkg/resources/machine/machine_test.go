package machine

import "testing"

func TestParseMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		text      string
		want      Memory
		available int64
		wrong     bool
	}{
		"all":                 {text: "MemTotal: 100 kB\nMemFree:\t40 kB\nInactive(file): 10 kB\nAnonPages: 7 kB\nDirty: 1 kB\n", want: Memory{100 << 10, 40 << 10, 10 << 10, 7 << 10}, available: 50 << 10},
		"more free than used": {text: "MemTotal: 100 kB\nMemFree: 95 kB\nInactive(file): 10 kB\n", want: Memory{100 << 10, 95 << 10, 10 << 10, 0}, available: 100 << 10},
		"no total":            {text: "MemFree: 40 kB\n", wrong: true},
		"no number":           {text: "MemTotal: many kB\n", wrong: true},
		"nothing":             {wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := parseMemory([]byte(tt.text))
			if (err != nil) != tt.wrong {
				t.Fatalf("error %v", err)
			}
			if m != tt.want || m.Available() != tt.available {
				t.Errorf("%+v with %d available, want %+v with %d", m, m.Available(), tt.want, tt.available)
			}
		})
	}
}

func TestThisMachine(t *testing.T) {
	m, err := ReadMemory()
	if err != nil || m.Available() <= 0 || m.Available() > m.Total {
		t.Errorf("memory %+v, %v", m, err)
	}
	running, most, ok := Processes()
	if !ok || running < 1 || most < running {
		t.Errorf("%d of %d processes, %v", running, most, ok)
	}
}

func TestReadFileSystem(t *testing.T) {
	fs, err := ReadFileSystem(t.TempDir())
	if err != nil || fs.Device == 0 || fs.Size <= 0 || fs.Free > fs.Size || fs.FreeInodes > fs.Inodes {
		t.Errorf("%+v, %v", fs, err)
	}
	if fs, err := ReadFileSystem("/no/such/directory"); err == nil {
		t.Errorf("of a directory that is not there: %+v", fs)
	}
}
