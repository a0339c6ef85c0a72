// Package imagetar makes container images out of files, without a builder or a
// registry: it writes the archive that `docker load` takes. The dockershim makes
// its pause image this way, cmd/demo-image the demo image, tests their images.
//
//	Image{Refs, Config, Files} ──Write──▶ tar: <diff id>/layer.tar, <id>.json, manifest.json
//	                           ──Load───▶ the same, streamed to a Docker daemon
//
// The same Image always gives the same bytes, and so the same image id: times are
// fixed, files sorted, missing parent directories added as root's with mode 0755.
// Files are streamed, never held in memory, except those made from bytes.
package imagetar
