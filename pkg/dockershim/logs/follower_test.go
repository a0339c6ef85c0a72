package logs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// Whatever stands in Docker's log, and however the agent is killed while it grows: the
// CRI log is what converting Docker's log at once gives.
func FuzzFollower(f *testing.F) {
	rec := `{"log":"a\n","stream":"stdout","time":"2026-11-21T03:30:03.714085622Z"}` + "\n"
	f.Add([]byte(rec+rec+rec), []byte{10, 200, 41, 90})
	f.Add([]byte("garbage\n\n"+rec+"{\"log\":\"torn"+rec+"not yet ended"), []byte{1, 2, 3, 4, 5, 6, 7, 8, 255, 254, 253})
	f.Add(bytes.Repeat([]byte(rec), 30), []byte{255, 255, 1, 255, 7})
	f.Fuzz(func(t *testing.T, content, steps []byte) {
		dir := t.TempDir()
		docker, cri := filepath.Join(dir, "docker.log"), filepath.Join(dir, "0.log")
		if err := os.WriteFile(docker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		start := func() *follower {
			f := &follower{id: "c", dockerPath: docker, criPath: cri, statePath: filepath.Join(dir, "position"), fresh: true}
			if err := f.begin(); err != nil {
				t.Fatal(err)
			}
			return f
		}
		pump := func(f *follower) {
			for more := true; more; {
				var err error
				if more, err = f.pump(); err != nil {
					t.Fatal(err)
				}
			}
		}
		agent := start()
		rest := content
		for _, step := range steps {
			n := min(len(rest), int(step))
			file, err := os.OpenFile(docker, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := file.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			file.Close()
			rest = rest[n:]
			pump(agent)
			switch step % 4 {
			case 1: // killed between two writes
				agent = start()
			case 2: // killed within the last of the writes since the position was saved
				if known := agent.saved.Size; agent.saved.CRI.Inode != 0 {
					if err := os.Truncate(cri, known+(agent.pos.Size-known)*int64(step)/255); err != nil {
						t.Fatal(err)
					}
				}
				agent = start()
			case 3: // ended in order
				if err := agent.save(); err != nil {
					t.Fatal(err)
				}
				agent = start()
			}
		}
		pump(agent)
		written := content[:len(content)-len(rest)]
		want := new(follower).convert(nil, written[:bytes.LastIndexByte(written, '\n')+1])
		got, err := os.ReadFile(cri)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	})
}
