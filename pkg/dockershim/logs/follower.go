package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"k8s.io/klog/v2"
)

const (
	readSize  = 256 << 10
	maxRecord = 4 << 20 // anything longer is not a record
	// saveEvery bounds how much is converted again after a crash.
	saveEvery = 1 << 20
	// turn is how much one container may copy before others have their turn.
	turn = 4 << 20
)

// buffers belong to one running pump.
type buffers struct{ in, out []byte }

var bufferPool = sync.Pool{New: func() any {
	return &buffers{in: make([]byte, readSize), out: make([]byte, 0, readSize)}
}}

// follower copies the log of one container. Except for the paths, mu guards all fields.
type follower struct {
	id, dockerPath, criPath, statePath string

	mu    sync.Mutex
	pos   position // what is in the CRI file for certain
	saved position // as on disk
	// ahead is how many bytes, in whole lines, the CRI file holds beyond pos.Size. They were
	// written before a crash or before the disk was full, and are compared, not written again.
	ahead int64
	// fresh: the position has not been compared with the CRI file since it was loaded.
	fresh bool
	// missing: records are lost, and a line must say so.
	missing bool
	garbled bool // said once
	// left: the CRI file has been renamed and there is a new one, but the agent died before it
	// had switched to that.
	left bool

	dead      bool // the container will not write any more
	done      bool // dead, and everything is copied
	forgotten bool

	// The rest is guarded by Manager.mu.
	watch   int32 // 0: none, the log is polled
	state   runState
	failing bool // the last pump failed: wait for the next sweep
}

// pump copies what Docker has written, to its end or for one turn (then more is true). After
// an error it can be called again without losing or doubling anything.
func (f *follower) pump() (more bool, err error) {
	more, err = f.copyOn()
	if err == nil && f.left && (!more || f.agrees()) {
		err = f.leave()
	}
	return more, err
}

// agrees reports whether the CRI file is known to hold nothing beyond the position.
func (f *follower) agrees() bool { return f.ahead == 0 && !f.fresh }

func (f *follower) copyOn() (more bool, err error) {
	if f.done || f.forgotten {
		return false, nil
	}
	src, err := findSource(f.dockerPath, f.pos)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // the container is being removed, or Docker is renaming
	}
	if err != nil {
		return false, err
	}
	defer src.Close()
	if src.restart {
		f.missing = f.missing || src.lost
		f.pos.Docker, f.pos.Offset, f.pos.Tail = src.fileID, 0, 0
		if f.missing {
			f.ahead = 0
		}
	}
	if src.size == f.pos.Offset && src.next.Inode == 0 && !f.missing {
		return false, nil
	}

	file, offset := f.pos.Docker, f.pos.Offset
	cri, err := f.reconcile()
	if err != nil {
		return false, err
	}
	defer cri.Close()
	if f.pos.Docker != file || f.pos.Offset != offset {
		return true, nil // realigned: src may be the wrong file
	}
	if f.missing {
		if err := f.tellMissing(cri); err != nil {
			return false, err
		}
	}
	more, err = f.copy(src.source, cri)
	if err != nil || more {
		return more, err
	}
	if src.next.Inode != 0 {
		// Docker had already renamed the file when it was read to its end: it is complete.
		f.pos.Docker, f.pos.Offset, f.pos.Tail = src.next, 0, 0
		return true, f.save()
	}
	return false, nil
}

// reconcile opens the CRI file and makes pos and ahead agree with it.
func (f *follower) reconcile() (criFile, error) {
	cri, err := currentCRI(f.criPath, f.pos.CRI)
	if err != nil {
		return cri, err
	}
	fail := func(err error) (criFile, error) {
		cri.Close()
		return criFile{}, err
	}
	switch {
	case cri.fileID != f.pos.CRI:
		// The first file, or a new one. The position must name the file before it holds a line.
		first := f.pos.CRI.Inode == 0
		lines, _, err := cri.lastLines(anchorSize)
		if err == nil {
			err = cri.endLine()
		}
		if err != nil {
			return fail(err)
		}
		f.pos.CRI, f.pos.Size, f.ahead = cri.fileID, cri.size, 0
		if first && len(lines) > 0 && !f.missing { // a log without a position, which must have been lost
			err = f.realign(lines)
		} else {
			err = f.save()
		}
		if err != nil {
			return fail(err)
		}
	case f.fresh:
		if err := cri.cutTorn(); err != nil {
			return fail(err)
		}
		f.ahead = cri.size - f.pos.Size
		if f.ahead < 0 && !f.missing { // a power cut took its end, or someone truncated it
			if err := f.realignTo(cri); err != nil {
				return fail(err)
			}
		}
	case cri.size != f.pos.Size+f.ahead: // someone else truncated it or wrote to it
		f.pos.Size, f.ahead = cri.size, 0
	}
	if f.saved.CRI != f.pos.CRI {
		if err := f.save(); err != nil {
			return fail(err)
		}
	}
	f.fresh = false
	return cri, nil
}

// copy converts the records of src beyond the position and appends them to cri.
func (f *follower) copy(src source, cri criFile) (more bool, err error) {
	b := bufferPool.Get().(*buffers)
	defer bufferPool.Put(b)
	var saveErr error // no reason to stop: there is only more to compare after a crash
	for copied := 0; copied < turn; {
		begin, end, full, err := readRecords(src, f.pos.Offset, b.in)
		switch {
		case err != nil:
			return false, err
		case full && len(b.in) < maxRecord:
			b.in = make([]byte, 2*len(b.in))
			continue
		case full:
			end = len(b.in)
		case begin == end:
			return false, saveErr
		}
		b.out = f.convert(b.out[:0], b.in[begin:end])
		err = f.write(cri, b.out)
		if errors.Is(err, errMisaligned) {
			return true, f.realignTo(cri)
		}
		if err != nil {
			return false, errors.Join(err, saveErr)
		}
		f.pos.Offset += int64(end - begin)
		f.pos.Tail = tailSum(b.in[:end])
		copied += end - begin
		if f.pos.Offset-f.saved.Offset >= saveEvery || f.saved.Docker != f.pos.Docker {
			saveErr = f.save()
		}
	}
	return true, saveErr
}

// convert appends the CRI lines of whole records to out.
func (f *follower) convert(out, records []byte) []byte {
	for len(records) > 0 {
		rec := records
		if i := bytes.IndexByte(records, '\n'); i >= 0 {
			rec, records = records[:i], records[i+1:]
		} else {
			records = nil
		}
		var ok bool
		if out, ok = appendRecord(out, rec); !ok && !f.garbled {
			f.garbled = true
			klog.InfoS("Docker's log holds damaged records, which are left out", "containerID", f.id, "path", f.dockerPath)
		}
	}
	return out
}

var errMisaligned = errors.New("the log does not hold what Docker's log says")

// write appends lines, except those that the file already holds. After an error the position
// has not moved, and the file ends with a whole line.
func (f *follower) write(cri criFile, lines []byte) error {
	have := min(f.ahead, int64(len(lines)))
	if have > 0 && !cri.holds(lines[:have], f.pos.Size) {
		return errMisaligned
	}
	rest := lines[have:]
	if len(rest) > 0 {
		n, err := cri.Write(rest)
		if err != nil {
			whole := int64(bytes.LastIndexByte(rest[:n], '\n') + 1)
			f.ahead = have + whole
			if whole < int64(n) && cri.Truncate(f.pos.Size+f.ahead) != nil {
				f.fresh = true // the next pump cuts it
			}
			return fmt.Errorf("write log: %w", err)
		}
	}
	f.pos.Size += int64(len(lines))
	f.ahead -= have
	return nil
}

// tellMissing writes a line in place of the lost ones.
func (f *follower) tellMissing(cri criFile) error {
	klog.InfoS("Log lines are lost: Docker rotated or truncated its log before they were copied", "containerID", f.id, "path", f.criPath)
	line := appendHead(nil, time.Now().UTC().AppendFormat(nil, time.RFC3339Nano), "stderr", 'F')
	line = append(line, "[mini-kubelet: lines are missing here; Docker rotated its log before they could be copied]\n"...)
	f.pos.Size, f.ahead = cri.size, 0
	if err := f.write(cri, line); err != nil {
		f.ahead = 0
		return err
	}
	f.missing = false
	return f.save()
}

// reopen switches to the file at the CRI path, creating it if it is missing.
func (f *follower) reopen() error {
	// The old file may hold lines beyond the position. The position must include them before
	// the file is left. Without anything to copy there are none.
	for more := true; more && !f.agrees(); {
		var err error
		if more, err = f.copyOn(); err != nil {
			return err
		}
	}
	return f.leave()
}

// leave ends the file to which the position refers.
func (f *follower) leave() error {
	cri, err := openCRI(f.criPath, true)
	if err != nil {
		return err
	}
	defer cri.Close()
	pos, ahead := f.pos, f.ahead
	if cri.fileID != f.pos.CRI {
		f.pos.CRI, f.pos.Size, f.ahead = cri.fileID, cri.size, 0
	}
	if err := f.save(); err != nil {
		// The next agent would go on in the old file, and so does this one.
		f.pos, f.ahead, f.left = pos, ahead, true
		return err
	}
	f.left = false
	return nil
}

// save makes the position durable against a crash of the agent.
func (f *follower) save() error {
	if f.saved == f.pos || f.forgotten {
		return nil
	}
	if err := f.pos.save(f.statePath); err != nil {
		return err
	}
	f.saved = f.pos
	return nil
}

// begin loads the position and opens the CRI log for the first time.
func (f *follower) begin() error {
	if p, ok := loadPosition(f.statePath); ok && p.Log == f.dockerPath {
		f.pos, f.saved = p, p
	}
	f.pos.Log = f.dockerPath
	cri, err := currentCRI(f.criPath, f.pos.CRI)
	if err != nil {
		return err
	}
	if cri.fileID == f.pos.CRI {
		at, err := statPath(f.criPath)
		f.left = err == nil && at.fileID != cri.fileID
	}
	return cri.Close()
}

// changed reports, without opening anything, whether Docker has written since the last
// pump.
func (f *follower) changed() bool {
	fi, err := statPath(f.dockerPath)
	return err == nil && (fi.fileID != f.pos.Docker || fi.size != f.pos.Offset)
}
