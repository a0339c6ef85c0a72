package convert

import (
	"errors"
	"io/fs"
	"strings"
	"time"
)

// testPlatform is a Docker 20.10 on a host where /real is behind the link /link.
func testPlatform() Platform {
	return Platform{
		StateDir: "/state", APIVersion: "1.41", AppArmor: true,
		RealPath: func(p string) (string, error) {
			switch {
			case p == "/link":
				return "/real", nil
			case strings.HasPrefix(p, "/gone"):
				return "", &fs.PathError{Op: "lstat", Path: p, Err: fs.ErrNotExist}
			}
			return p, nil
		},
		ReadFile: func(p string) ([]byte, error) {
			if p == "/profile.json" {
				return []byte("{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n"), nil
			}
			return nil, errors.New("no such file")
		},
	}
}

var testTime = time.Unix(1, 5)
