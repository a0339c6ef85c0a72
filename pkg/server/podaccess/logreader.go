package podaccess

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"time"

	v1 "k8s.io/api/core/v1"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A pod with a hostPath can put anything into a log, so a line is read in pieces.
// Runtimes split a container's output after 16 KiB; containerd's
// max_container_log_line_size can be larger.
const (
	pieceSize = 64 << 10
	maxLine   = 1 << 20
)

var (
	errNoLog   = errors.New("it does not begin with a line of a CRI log")
	errDamaged = errors.New("the log is damaged: a line of more than 1 MiB")
	errEnough  = errors.New("all that was asked for has been written")
)

var eol = []byte("\n")

// stampFormat is RFC3339Nano with all nine digits.
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// header is what a line of a CRI log starts with:
//
//	2016-10-06T00:17:09.669794202Z stdout P text
type header struct {
	time    time.Time
	stream  cri.LogStreamType
	partial bool // tag P: the end of this line is not the end of the container's line
}

func parseHeader(line []byte) (h header, text []byte, ok bool) {
	fields := bytes.SplitN(line, []byte(" "), 4)
	if len(fields) < 4 {
		return header{}, nil, false
	}
	stamp, err := time.Parse(time.RFC3339Nano, string(fields[0]))
	stream := cri.LogStreamType(fields[1])
	if err != nil || stream != cri.Stdout && stream != cri.Stderr {
		return header{}, nil, false
	}
	tag, _, _ := bytes.Cut(fields[2], []byte(cri.LogTagDelimiter))
	return header{stamp, stream, cri.LogTag(tag) == cri.LogTagPartial}, fields[3], true
}

// tailStart returns where the last n lines of the log start. As in the kubelet, text
// after the last newline is not counted.
func tailStart(ctx context.Context, log io.ReaderAt, size, n int64) (int64, error) {
	buf := make([]byte, min(size, pieceSize))
	lineEnd := size
	for right := size; right > 0; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		left := max(0, right-int64(len(buf)))
		got, err := log.ReadAt(buf[:right-left], left)
		if err != nil && err != io.EOF { // EOF: it has been truncated
			return 0, err
		}
		for block := buf[:got]; ; n-- {
			i := bytes.LastIndexByte(block, '\n')
			if i < 0 {
				break
			}
			lineEnd = left + int64(i)
			if n == 0 {
				return lineEnd + 1, nil
			}
			block = block[:i]
		}
		if lineEnd-left > maxLine {
			return 0, errDamaged
		}
		right = left
	}
	return 0, nil
}

// logReader writes the requested part of a log. The rules are the kubelet's, from
// the library k8s.io/cri-client/pkg/logs, with which the tests compare it.
type logReader struct {
	out    output
	whole  bool  // text at the end of the file is a line even without a newline
	lines  int64 // still to be written; negative: all
	offset int64 // in the file, of the first unprocessed byte

	buf    *bufio.Reader
	isLog  bool   // some line has been one of a CRI log
	line   header // of the line whose piece was read last
	valid  bool   // whether header is valid
	length int    // of its pieces so far; 0: the next piece begins a line
}

func newLogReader(o *v1.PodLogOptions, now time.Time, stdout, stderr io.Writer) *logReader {
	r := &logReader{
		out:   output{stdout: stdout, stderr: stderr, stamps: o.Timestamps, since: since(o, now), remain: math.MaxInt64, fresh: true},
		whole: !o.Follow,
		lines: -1,
		buf:   bufio.NewReaderSize(nil, pieceSize),
	}
	if o.LimitBytes != nil {
		r.out.remain = *o.LimitBytes
	}
	if o.TailLines != nil && !o.Follow { // the log may grow meanwhile
		r.lines = *o.TailLines
	}
	return r
}

func since(o *v1.PodLogOptions, now time.Time) time.Time {
	switch {
	case o.SinceSeconds != nil:
		return now.Add(-time.Duration(*o.SinceSeconds) * time.Second)
	case o.SinceTime != nil:
		return o.SinceTime.Time
	}
	return time.Time{}
}

// begin makes the next read start at this offset, with a new line.
func (r *logReader) begin(offset int64) { r.offset, r.length = offset, 0 }

// read continues to the log's present end. It returns errEnough when nothing after
// that is wanted.
func (r *logReader) read(ctx context.Context, log io.ReaderAt) error {
	r.buf.Reset(io.NewSectionReader(log, r.offset, math.MaxInt64))
	for r.lines != 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		piece, err := r.buf.ReadSlice('\n')
		switch {
		case err == io.EOF && (len(piece) == 0 || !r.whole):
			return nil
		case err != nil && err != io.EOF && err != bufio.ErrBufferFull:
			return err
		}
		r.offset += int64(len(piece))
		if passErr := r.pass(piece); passErr != nil {
			return passErr
		}
		if err == io.EOF {
			return nil
		}
	}
	return errEnough
}

// pass processes the next piece of the log: a line, or a part of one.
func (r *logReader) pass(piece []byte) error {
	text, first, last := piece, r.length == 0, bytes.HasSuffix(piece, eol)
	if first {
		r.line, text, r.valid = parseHeader(piece)
	}
	if r.length += len(piece); r.length > maxLine {
		return errDamaged
	}
	if last {
		r.length = 0
	}
	if !r.valid { // not a line of a log; skipped unless no line has been one
		if !r.isLog {
			return errNoLog
		}
		return nil
	}
	r.isLog = true
	if r.line.partial {
		text = bytes.TrimSuffix(text, eol)
	}
	if err := r.out.write(r.line, text, first); err != nil {
		return err
	}
	if last {
		r.lines--
	}
	return nil
}

// output is where a log is written; a stream that is not wanted is nil.
type output struct {
	stdout, stderr io.Writer
	stamps         bool
	since          time.Time
	remain         int64 // bytes that may still be written, to both streams together
	fresh          bool  // a line begins, in either stream
	buf            []byte
}

func (o *output) write(h header, text []byte, first bool) error {
	fresh := o.fresh
	o.fresh = first && len(text) == 0 || bytes.HasSuffix(text, eol)
	w := o.stdout
	if h.stream == cri.Stderr {
		w = o.stderr
	}
	if w == nil || h.time.Before(o.since) {
		return nil
	}
	if fresh && o.stamps {
		o.buf = append(h.time.AppendFormat(o.buf[:0], stampFormat), ' ')
		o.buf = append(o.buf, text...)
		text = o.buf
	}
	text = text[:min(int64(len(text)), o.remain)]
	n, err := w.Write(text)
	o.remain -= int64(n)
	switch {
	case err != nil:
		return err
	case n < len(text):
		return io.ErrShortWrite
	case o.remain <= 0:
		return errEnough
	}
	return nil
}
