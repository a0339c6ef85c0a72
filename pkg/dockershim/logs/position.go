package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/safefile"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/dockerid"
)

// position says that the first Size bytes of the CRI file hold everything that precedes
// Offset of the file Docker in Docker's log.
type position struct {
	Docker fileID `json:"docker"`
	Offset int64  `json:"offset"`
	// Tail is the checksum of the bytes before Offset (at most tailLen). They contain the time
	// of a record, so that it proves that the file is still the same.
	Tail uint32 `json:"tail"`
	CRI  fileID `json:"cri"`
	Size int64  `json:"size"`
	// Log is the path of Docker's log. When its directory is gone, so is the container.
	Log string `json:"log"`
}

const tailLen = 48

func tailSum(before []byte) uint32 {
	return crc32.ChecksumIEEE(before[max(0, len(before)-tailLen):])
}

// fileID identifies a file even after it is renamed. The time of birth, where the filesystem
// knows it, distinguishes the file from a later one with the same inode.
type fileID struct {
	Inode uint64 `json:"inode"`
	Born  int64  `json:"born,omitempty"` // ns
}

type fileInfo struct {
	fileID
	size int64
}

func statFile(f *os.File) (fileInfo, error) { return statx(int(f.Fd()), "", unix.AT_EMPTY_PATH) }

// statPath does not follow a symbolic link.
func statPath(path string) (fileInfo, error) {
	return statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW)
}

func statx(dir int, path string, flags int) (fileInfo, error) {
	var st unix.Statx_t
	if err := unix.Statx(dir, path, flags, unix.STATX_INO|unix.STATX_SIZE|unix.STATX_BTIME, &st); err != nil {
		return fileInfo{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	fi := fileInfo{fileID: fileID{Inode: st.Ino}, size: int64(st.Size)}
	if st.Mask&unix.STATX_BTIME != 0 {
		fi.Born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return fi, nil
}

// loadPosition reads a position. It returns false when the file is missing or damaged, as it may be
// after a power cut. What could not be replaced is moved aside.
func loadPosition(path string) (position, bool) {
	var p position
	b, err := durable.Read(path)
	if durable.IsDamage(err) {
		_ = durable.MoveAside(path, "Up to where a log has been copied. It is compared with its copy.", err) // saving says what is wrong
	}
	if err != nil || json.Unmarshal(b, &p) != nil || p.Docker.Inode == 0 || p.Offset < 0 || p.Size < 0 {
		return position{}, false
	}
	return p, true
}

// save replaces the position file without syncing it. A kill of the agent does not require
// that, and after a power cut the logs, which nobody syncs either, have to be compared with
// each other anyway (see realign).
func (p position) save(path string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path + ".tmp")
	f, err := safefile.Create(dir, name, 0o600)
	if err != nil {
		return fmt.Errorf("save log position: %w", err)
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save log position: %w", err)
	}
	return nil
}

// prunePositions removes the positions of containers that were removed while nobody watched:
// their directories in Docker's data are gone. A position that cannot be removed is logged
// and does no harm.
func prunePositions(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !dockerid.Named(e) {
			continue // somebody else's
		}
		path := filepath.Join(dir, e.Name())
		p, ok := loadPosition(path)
		if ok {
			container := filepath.Dir(p.Log)
			_, all := os.Stat(filepath.Dir(container)) // missing: Docker's disk is not mounted
			if _, err := os.Stat(container); all != nil || !os.IsNotExist(err) {
				continue
			}
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			klog.ErrorS(err, "Old log position cannot be removed")
		}
	}
	return nil
}
