#include "textflag.h"

// Both hashes of the same bytes in one loop: see hash.go. Each is a chain of instructions that
// wait for the one before (4 and 6 cycles), and a processor does other work while it
// waits: here the other hash. So both take little longer than one of them.
//
// DI, R8: the states. SI: the bytes, DX: their end. AX: the constants. BX: what the
// states were before the block. SHA-256 has X0 to X7 (X1, X2 the state, X3 to X6 the
// message), SHA-1 has X8 to X14 (X8 is ABCD, X9 and X10 are E, X11 to X14 the message).

// Four rounds of SHA-256 with the words in m.
#define R2(k, m) \
	MOVO m, X0; PADDD (k*16)(AX), X0; SHA256RNDS2 X0, X1, X2; \
	PSHUFD $0x0e, X0, X0; SHA256RNDS2 X0, X2, X1

// The words four rounds on, in next, become complete; and those three times four
// rounds on, in prev, are begun.
#define NEXT2(m, next, prev) \
	MOVO m, X7; PALIGNR $4, prev, X7; PADDD X7, next; SHA256MSG2 m, next

#define LOAD2(off, m) MOVOU off(SI), m; PSHUFB X15, m
#define LOAD1(off, m) MOVOU off(SI), m; PSHUFB reverse<>(SB), m

// Four rounds of SHA-1 with the words in m; e holds E, and save gets the next.
#define R1(f, m, e, save) SHA1NEXTE m, e; MOVO X8, save; SHA1RNDS4 $f, e, X8

// func twoHashes(h256 *[8]uint32, h1 *[5]uint32, p []byte)
TEXT ·twoHashes(SB), NOSPLIT, $80-40
	MOVQ h256+0(FP), DI
	MOVQ h1+8(FP), R8
	MOVQ p_base+16(FP), SI
	MOVQ p_len+24(FP), DX
	SHRQ $6, DX
	SHLQ $6, DX
	JZ   done
	ADDQ SI, DX
	LEAQ k256<>(SB), AX
	LEAQ 15(SP), BX
	ANDQ $~15, BX

	// A B E F and C D G H.
	MOVOU   (DI), X1
	MOVOU   16(DI), X2
	PSHUFD  $0xb1, X1, X1
	PSHUFD  $0x1b, X2, X2
	MOVO    X1, X7
	PALIGNR $8, X2, X1
	PBLENDW $0xf0, X7, X2
	MOVOU   flip<>(SB), X15

	MOVOU  (R8), X8
	PSHUFD $0x1b, X8, X8
	PXOR   X9, X9
	PINSRD $3, 16(R8), X9

block:
	MOVO X1, (BX)
	MOVO X2, 16(BX)
	MOVO X8, 32(BX)
	MOVO X9, 48(BX)

	LOAD2(0, X3)
	R2(0, X3)
	LOAD1(0, X11)
	PADDD X11, X9; MOVO X8, X10; SHA1RNDS4 $0, X9, X8
	LOAD2(16, X4)
	R2(1, X4)
	SHA256MSG1 X4, X3
	LOAD1(16, X12)
	R1(0, X12, X10, X9)
	SHA1MSG1 X12, X11
	LOAD2(32, X5)
	R2(2, X5)
	SHA256MSG1 X5, X4
	LOAD1(32, X13)
	R1(0, X13, X9, X10)
	SHA1MSG1 X13, X12; PXOR X13, X11
	LOAD2(48, X6)
	NEXT2(X6, X3, X5)
	R2(3, X6)
	SHA256MSG1 X6, X5
	LOAD1(48, X14)
	R1(0, X14, X10, X9)
	SHA1MSG2 X14, X11; SHA1MSG1 X14, X13; PXOR X14, X12
	R1(0, X11, X9, X10)
	SHA1MSG2 X11, X12; SHA1MSG1 X11, X14; PXOR X11, X13
	NEXT2(X3, X4, X6)
	R2(4, X3)
	SHA256MSG1 X3, X6
	R1(1, X12, X10, X9)
	SHA1MSG2 X12, X13; SHA1MSG1 X12, X11; PXOR X12, X14
	NEXT2(X4, X5, X3)
	R2(5, X4)
	SHA256MSG1 X4, X3
	R1(1, X13, X9, X10)
	SHA1MSG2 X13, X14; SHA1MSG1 X13, X12; PXOR X13, X11
	NEXT2(X5, X6, X4)
	R2(6, X5)
	SHA256MSG1 X5, X4
	R1(1, X14, X10, X9)
	SHA1MSG2 X14, X11; SHA1MSG1 X14, X13; PXOR X14, X12
	NEXT2(X6, X3, X5)
	R2(7, X6)
	SHA256MSG1 X6, X5
	R1(1, X11, X9, X10)
	SHA1MSG2 X11, X12; SHA1MSG1 X11, X14; PXOR X11, X13
	R1(1, X12, X10, X9)
	SHA1MSG2 X12, X13; SHA1MSG1 X12, X11; PXOR X12, X14
	NEXT2(X3, X4, X6)
	R2(8, X3)
	SHA256MSG1 X3, X6
	R1(2, X13, X9, X10)
	SHA1MSG2 X13, X14; SHA1MSG1 X13, X12; PXOR X13, X11
	NEXT2(X4, X5, X3)
	R2(9, X4)
	SHA256MSG1 X4, X3
	R1(2, X14, X10, X9)
	SHA1MSG2 X14, X11; SHA1MSG1 X14, X13; PXOR X14, X12
	NEXT2(X5, X6, X4)
	R2(10, X5)
	SHA256MSG1 X5, X4
	R1(2, X11, X9, X10)
	SHA1MSG2 X11, X12; SHA1MSG1 X11, X14; PXOR X11, X13
	NEXT2(X6, X3, X5)
	R2(11, X6)
	SHA256MSG1 X6, X5
	R1(2, X12, X10, X9)
	SHA1MSG2 X12, X13; SHA1MSG1 X12, X11; PXOR X12, X14
	R1(2, X13, X9, X10)
	SHA1MSG2 X13, X14; SHA1MSG1 X13, X12; PXOR X13, X11
	NEXT2(X3, X4, X6)
	R2(12, X3)
	SHA256MSG1 X3, X6
	R1(3, X14, X10, X9)
	SHA1MSG2 X14, X11; SHA1MSG1 X14, X13; PXOR X14, X12
	NEXT2(X4, X5, X3)
	R2(13, X4)
	R1(3, X11, X9, X10)
	SHA1MSG2 X11, X12; SHA1MSG1 X11, X14; PXOR X11, X13
	NEXT2(X5, X6, X4)
	R2(14, X5)
	R1(3, X12, X10, X9)
	SHA1MSG2 X12, X13; PXOR X12, X14
	R2(15, X6)
	R1(3, X13, X9, X10)
	SHA1MSG2 X13, X14
	R1(3, X14, X10, X9)

	PADDD     (BX), X1
	PADDD     16(BX), X2
	SHA1NEXTE 48(BX), X9
	PADDD     32(BX), X8
	ADDQ      $64, SI
	CMPQ      SI, DX
	JNE       block

	PSHUFD  $0x1b, X1, X1
	PSHUFD  $0xb1, X2, X2
	MOVO    X1, X7
	PBLENDW $0xf0, X2, X1
	PALIGNR $8, X7, X2
	MOVOU   X1, (DI)
	MOVOU   X2, 16(DI)
	PSHUFD  $0x1b, X8, X8
	MOVOU   X8, (R8)
	PEXTRD  $3, X9, 16(R8)

done:
	RET

// func hasSHA() bool
TEXT ·hasSHA(SB), NOSPLIT, $0-1
	MOVB $0, ret+0(FP)
	XORL AX, AX
	CPUID
	CMPL AX, $7
	JLT  no
	MOVL $7, AX
	XORL CX, CX
	CPUID
	SHRL $29, BX
	ANDL $1, BX
	MOVB BX, ret+0(FP)

no:
	RET

DATA reverse<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA reverse<>+8(SB)/8, $0x0001020304050607
GLOBL reverse<>(SB), RODATA|NOPTR, $16

DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16

// FIPS 180-4 §4.2.2
DATA k256<>+0(SB)/8, $0x71374491428a2f98
DATA k256<>+8(SB)/8, $0xe9b5dba5b5c0fbcf
DATA k256<>+16(SB)/8, $0x59f111f13956c25b
DATA k256<>+24(SB)/8, $0xab1c5ed5923f82a4
DATA k256<>+32(SB)/8, $0x12835b01d807aa98
DATA k256<>+40(SB)/8, $0x550c7dc3243185be
DATA k256<>+48(SB)/8, $0x80deb1fe72be5d74
DATA k256<>+56(SB)/8, $0xc19bf1749bdc06a7
DATA k256<>+64(SB)/8, $0xefbe4786e49b69c1
DATA k256<>+72(SB)/8, $0x240ca1cc0fc19dc6
DATA k256<>+80(SB)/8, $0x4a7484aa2de92c6f
DATA k256<>+88(SB)/8, $0x76f988da5cb0a9dc
DATA k256<>+96(SB)/8, $0xa831c66d983e5152
DATA k256<>+104(SB)/8, $0xbf597fc7b00327c8
DATA k256<>+112(SB)/8, $0xd5a79147c6e00bf3
DATA k256<>+120(SB)/8, $0x1429296706ca6351
DATA k256<>+128(SB)/8, $0x2e1b213827b70a85
DATA k256<>+136(SB)/8, $0x53380d134d2c6dfc
DATA k256<>+144(SB)/8, $0x766a0abb650a7354
DATA k256<>+152(SB)/8, $0x92722c8581c2c92e
DATA k256<>+160(SB)/8, $0xa81a664ba2bfe8a1
DATA k256<>+168(SB)/8, $0xc76c51a3c24b8b70
DATA k256<>+176(SB)/8, $0xd6990624d192e819
DATA k256<>+184(SB)/8, $0x106aa070f40e3585
DATA k256<>+192(SB)/8, $0x1e376c0819a4c116
DATA k256<>+200(SB)/8, $0x34b0bcb52748774c
DATA k256<>+208(SB)/8, $0x4ed8aa4a391c0cb3
DATA k256<>+216(SB)/8, $0x682e6ff35b9cca4f
DATA k256<>+224(SB)/8, $0x78a5636f748f82ee
DATA k256<>+232(SB)/8, $0x8cc7020884c87814
DATA k256<>+240(SB)/8, $0xa4506ceb90befffa
DATA k256<>+248(SB)/8, $0xc67178f2bef9a3f7
GLOBL k256<>(SB), RODATA|NOPTR, $256
