// Package record remembers by whose credentials images came to the node, so that a
// pod gets an image that is present only if it could have pulled it (KEP-2535).
// Package image asks it before a pod may use a present image, and tells it of each
// pull:
//
//	Begin ─▶ image_manager/pulling/sha256-<image>   removed when the pull has ended
//	Pulled ─▶ image_manager/pulled/sha256-<image ID> who may use the image
//
// Names and contents are the kubelet's, under the same root directory. An image
// that was being pulled when the agent died counts as pulled by nobody known: see
// Recover. Credentials are kept as hashes only.
package record
