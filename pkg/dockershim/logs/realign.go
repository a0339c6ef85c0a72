package logs

import (
	"bytes"
	"fmt"
	"time"

	"k8s.io/klog/v2"
)

// realignTo realigns to the last lines of the CRI log, which must be the known one.
func (f *follower) realignTo(cri criFile) error {
	fi, err := statFile(cri.File)
	if err != nil {
		return err
	}
	cri.fileInfo = fi
	lines, _, err := cri.lastLines(anchorSize)
	if err == nil {
		err = cri.endLine()
	}
	if err != nil {
		return err
	}
	f.pos.Size, f.ahead = cri.size, 0
	return f.realign(lines)
}

// realign finds the position in Docker's log again, by searching there for the last of lines,
// which are the end of the CRI log. It is used when there is no position, or when the log does
// not hold what the position promises: after a power cut, or when files were changed by hand.
func (f *follower) realign(lines []byte) error {
	klog.InfoS("Container log and its position disagree; looking for its last line in Docker's log", "containerID", f.id, "path", f.criPath)
	if len(lines) == 0 {
		return f.save()
	}
	all, err := openSources(f.dockerPath)
	if err != nil {
		return err
	}
	defer closeAll(all)
	at, ok, err := findAfter(lines, all)
	if err != nil {
		return fmt.Errorf("look for the log's last line in Docker's log: %w", err)
	}
	// All of Docker's log may be older than the lines: Docker lost the end of it in a power cut,
	// or, without a saved position, the lines are another container's and this log has to be
	// copied completely.
	if ok || f.saved.Docker.Inode != 0 {
		f.pos.Docker, f.pos.Offset, f.pos.Tail = at.Docker, at.Offset, at.Tail
	}
	return f.save()
}

// anchorSize is how much of the end of a CRI log is compared. It holds more than one
// line, as the pieces of a long line have the same time and can be equal.
const anchorSize = 1 << 20

// lineTime returns the time of a CRI line, and the zero time for anything else.
func lineTime(line []byte) time.Time {
	stamp, _, _ := bytes.Cut(line, []byte{' '})
	t, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}
	}
	return t
}

// findAfter returns the position after the record that gave the last of lines. If several
// records gave an equal line, it takes the one that most of the other lines precede. Without
// such a record it returns the position before the first later record, and without that,
// false and the end of the log. all is sorted newest first.
func findAfter(lines []byte, all []source) (at position, ok bool, err error) {
	last := lines[bytes.LastIndexByte(lines[:len(lines)-1], '\n')+1:]
	lastTime := lineTime(last)
	var match, later, end position
	best := 0
	var window []byte // the end of what the records gave
	in := make([]byte, readSize)
	for i := len(all) - 1; i >= 0; i-- {
		src := all[i]
		end = position{Docker: src.fileID}
		for {
			begin, stop, full, err := readRecords(src, end.Offset, in)
			if err != nil {
				return position{}, false, err
			}
			if full && len(in) < maxRecord {
				in = make([]byte, 2*len(in))
				continue
			}
			if full {
				stop = len(in)
			}
			if begin == stop {
				break
			}
			for at := begin; at < stop; {
				size := bytes.IndexByte(in[at:stop], '\n') + 1
				if size == 0 {
					size = stop - at
				}
				if len(window) > 2*anchorSize {
					window = append(window[:0], window[len(window)-anchorSize:]...)
				}
				known := len(window)
				window, _ = appendRecord(window, bytes.TrimSuffix(in[at:at+size], []byte{'\n'}))
				before := end
				at += size
				end.Offset += int64(size)
				end.Tail = tailSum(in[:at])
				if bytes.HasSuffix(window, last) {
					if n := commonSuffix(window, lines); n > best {
						best, match = n, end
					}
				} else if later.Docker.Inode == 0 && lineTime(window[known:]).After(lastTime) {
					later = before
				}
			}
		}
	}
	switch {
	case match.Docker.Inode != 0:
		return match, true, nil
	case later.Docker.Inode != 0:
		return later, true, nil
	}
	return end, false, nil
}

func commonSuffix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
