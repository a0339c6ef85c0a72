package harness

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/docker/docker/api/types/image"
)

// Busybox is the image that test containers run: Debian's static busybox with its
// applets, made on the spot. Nothing is pulled.
const Busybox = "test.local/busybox:1"

// busyboxPaths are where distributions put a static busybox.
var busyboxPaths = []string{"/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/bin/busybox-static"}

// applets that the tests' shell commands use.
var applets = []string{"sh", "sleep", "cat", "echo", "touch", "ls", "id", "env", "hostname", "nc", "wget", "httpd", "kill", "ps", "true", "false", "test", "mkdir", "date", "trap", "ip", "grep", "readlink", "head", "seq", "dd", "wc", "stat", "mount", "rm", "tr", "yes", "usleep", "chmod", "printf", "tar", "sha256sum", "tail", "base64"}

// busyboxTar is the root filesystem of the test image.
var busyboxTar = sync.OnceValues(func() ([]byte, error) {
	var program []byte
	var err error
	for _, path := range busyboxPaths {
		if program, err = os.ReadFile(path); err == nil {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the tests' image is made from a static busybox, which is missing (Debian: apt-get install busybox-static): %w", err)
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, dir := range []string{"bin/", "etc/", "tmp/", "dev/", "proc/", "sys/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	for _, a := range applets {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + a, Linkname: "busybox", Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "etc/passwd", Mode: 0o644, Size: int64(len(passwd))}); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(w, passwd); err != nil {
		return nil, err
	}
	err = w.Close()
	return buf.Bytes(), err
})

const passwd = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"

// LoadBusybox loads the test image into the daemon as ref, unless it is there.
func (d *Dockerd) LoadBusybox(t T, ref string) {
	t.Helper()
	if err := d.loadBusybox(t.Context(), ref); err != nil {
		t.Fatalf("%v", err)
	}
}

// LoadBig loads an image into the daemon as ref: the test image with so many bytes more, which
// no other image has. It returns its ID.
func (d *Dockerd) LoadBig(t T, ref string, size int64) (id string) {
	t.Helper()
	files, err := busyboxTar()
	if err != nil {
		t.Fatalf("%v", err)
	}
	var more bytes.Buffer
	w := tar.NewWriter(&more)
	err = w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "big", Mode: 0o644, Size: size})
	if _, e := io.CopyN(w, rand.Reader, size); err == nil {
		err = e
	}
	if e := w.Close(); err == nil {
		err = e
	}
	if err != nil {
		t.Fatalf("make image %s: %v", ref, err)
	}
	const end = 2 * 512 // of an archive
	all := io.MultiReader(bytes.NewReader(files[:len(files)-end]), &more)
	if err := d.importImage(t.Context(), ref, all); err != nil {
		t.Fatalf("%v", err)
	}
	img, err := d.Client.ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return img.ID
}

func (d *Dockerd) loadBusybox(ctx context.Context, ref string) error {
	if _, err := d.Client.ImageInspect(ctx, ref); err == nil {
		return nil
	}
	fs, err := busyboxTar()
	if err != nil {
		return err
	}
	return d.importImage(ctx, ref, bytes.NewReader(fs))
}

// importImage makes an image of the archive of its files.
func (d *Dockerd) importImage(ctx context.Context, ref string, files io.Reader) error {
	out, err := d.Client.ImageImport(ctx, image.ImportSource{Source: files, SourceName: "-"}, ref,
		image.ImportOptions{Changes: []string{`CMD ["/bin/sh"]`, "ENV PATH=/bin"}})
	if err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	defer out.Close()
	if _, err := io.Copy(io.Discard, out); err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	_, err = d.Client.ImageInspect(ctx, ref)
	return err
}
