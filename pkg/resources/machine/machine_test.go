package machine

import "testing"

func TestParseMemory(t *testing.T) {
	for name, tt := range map[string]struct {
		text      string
		want      Memory
		available int64
		wrong     bool
	}{
		"all": {
			text: "MemTotal: 100 kB\nMemFree:\t40 kB\nBuffers: 2 kB\nCached: 20 kB\nSwapCached: 1 kB\nInactive(file): 10 kB\nAnonPages: 7 kB\nDirty: 1 kB\n",
			want: Memory{Total: 100 << 10, Anonymous: 7 << 10, File: 23 << 10, InactiveFile: 10 << 10}, available: 80 << 10,
		},
		"full of inodes that the kernel remembers": {
			text: "MemTotal: 100 kB\nMemFree: 1 kB\nCached: 10 kB\nAnonPages: 9 kB\nSlab: 80 kB\nSReclaimable: 79 kB\n",
			want: Memory{Total: 100 << 10, Anonymous: 9 << 10, File: 10 << 10}, available: 81 << 10,
		},
		"set aside for huge pages": {
			text: "MemTotal: 100 kB\nCached: 10 kB\nAnonPages: 9 kB\nHugetlb: 64 kB\n",
			want: Memory{Total: 100 << 10, Anonymous: 9 << 10, File: 10 << 10, HugePages: 64 << 10}, available: 17 << 10,
		},
		"more huge pages than is left": {
			text: "MemTotal: 100 kB\nAnonPages: 70 kB\nHugetlb: 64 kB\n",
			want: Memory{Total: 100 << 10, Anonymous: 70 << 10, HugePages: 64 << 10},
		},
		"more inactive than used": {
			text: "MemTotal: 100 kB\nCached: 5 kB\nInactive(file): 10 kB\n",
			want: Memory{Total: 100 << 10, File: 5 << 10, InactiveFile: 10 << 10}, available: 100 << 10,
		},
		"no total":  {text: "MemFree: 40 kB\n", wrong: true},
		"no number": {text: "MemTotal: many kB\n", wrong: true},
		"nothing":   {wrong: true},
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
