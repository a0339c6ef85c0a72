package pause

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

const (
	machineAMD64 = elf.EM_X86_64
	machineARM64 = elf.EM_AARCH64

	ehdrSize, phdrSize = 64, 56

	// base is where the file is mapped: the customary place, a multiple of every
	// page size in use (arm64 has pages up to 64 KiB).
	base      = 0x400000
	alignment = 0x10000
)

// elfFile is a static executable: the ELF header, two program headers, data, code.
// The whole file is mapped as one read-only executable segment; the second program
// header only says that the stack needs no execute permission.
func elfFile(machine elf.Machine, data, code []byte) []byte {
	const headers = ehdrSize + 2*phdrSize
	size := uint64(headers + len(data) + len(code))
	var out bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [elf.EI_NIDENT]byte{
				0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT),
			},
			Type:      uint16(elf.ET_EXEC),
			Machine:   uint16(machine),
			Version:   uint32(elf.EV_CURRENT),
			Entry:     base + headers + uint64(len(data)),
			Phoff:     ehdrSize,
			Ehsize:    ehdrSize,
			Phentsize: phdrSize,
			Phnum:     2,
		},
		elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: alignment,
		},
		elf.Prog64{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
		data,
		code,
	} {
		// Values of fixed size into memory: this cannot fail.
		_ = binary.Write(&out, binary.LittleEndian, part)
	}
	return out.Bytes()
}
