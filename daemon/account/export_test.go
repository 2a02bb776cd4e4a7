package account

import "golang.org/x/crypto/argon2"

// HashForTest is the PHC string that an earlier version might have stored.
func HashForTest(password string, memory, time uint32) string {
	p := phc{memory: memory, time: time, threads: 1, salt: random(argonSalt)}
	p.key = argon2.IDKey([]byte(normalPassword(password)), p.salt, time, memory, 1, argonKey)
	return p.String()
}
