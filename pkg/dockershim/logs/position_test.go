package logs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzPosition: whatever stands in a position file, in the log and in Docker's log, the log's
// beginning stays as it is, and what is found lies within Docker's log.
func FuzzPosition(f *testing.F) {
	rec := `{"log":"a\n","stream":"stdout","time":"2026-11-21T03:30:03.714085622Z"}` + "\n"
	line := "2026-11-21T03:30:03.714085622Z stdout F a\n"
	f.Add([]byte(`{"docker":{"inode":1},"offset":5,"tail":1,"cri":{"inode":1},"size":3,"log":"/x"}`), []byte(rec+rec), []byte(line))
	f.Add([]byte(`{"docker":{"inode":1},"offset":9223372036854775807,"cri":{"inode":1},"size":9223372036854775807}`), []byte(rec), []byte(line+line))
	f.Add([]byte(`{"docker":{"inode":18446744073709551615,"born":-1},"offset":-1,"size":-1}`), []byte("garbage"), []byte("garbage"))
	f.Add([]byte(`null`), []byte(nil), []byte("\n"))
	f.Add([]byte(`{"docker":null,"cri":[]}`), []byte("\n\n"), []byte(line+"torn"))
	f.Fuzz(func(t *testing.T, saved, content, log []byte) {
		dir := t.TempDir()
		docker, cri, state := filepath.Join(dir, "docker.log"), filepath.Join(dir, "0.log"), filepath.Join(dir, "position")
		for path, text := range map[string][]byte{docker: content, cri: log, state: saved} {
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if p, ok := loadPosition(state); ok && (p.Docker.Inode == 0 || p.Offset < 0 || p.Size < 0) {
			t.Errorf("position %+v", p)
		}
		if len(log) > 0 {
			all, err := openSources(docker)
			if err != nil {
				t.Fatal(err)
			}
			at, _, err := findAfter(log, all)
			if err != nil || at.Offset < 0 || at.Offset > int64(len(content)) {
				t.Errorf("found %+v in %d bytes, %v", at, len(content), err)
			}
			closeAll(all)
		}
		agent := &follower{id: "c", dockerPath: docker, criPath: cri, statePath: state, fresh: true}
		if err := agent.begin(); err != nil {
			t.Fatal(err)
		}
		more := true
		for turns := 0; more; turns++ {
			var err error
			if more, err = agent.pump(); err != nil {
				t.Fatal(err)
			}
			if turns > 100 {
				t.Fatal("it does not come to an end")
			}
		}
		if agent.pos.Offset < 0 || agent.pos.Offset > int64(len(content)) || agent.pos.Size < 0 {
			t.Errorf("position %+v in %d bytes", agent.pos, len(content))
		}
		now, err := os.ReadFile(cri)
		if err != nil {
			t.Fatal(err)
		}
		if whole := log[:bytes.LastIndexByte(log, '\n')+1]; !bytes.HasPrefix(now, whole) {
			t.Errorf("the log was %q and is %q", log, now)
		}
	})
}
