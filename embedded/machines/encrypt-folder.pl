# perl encrypt-folder.pl <mount point> <folder below it>   < key
#
# Gives a file system that can encrypt (fscrypt) the key, and the empty folder the policy: AES-256-XTS for what is in
# files, AES-256-CTS for their names. A folder that has the policy is unlocked. The key is 64 bytes.
use strict;
use warnings;

my ($mount, $folder) = @ARGV;
binmode STDIN;
my $key = do { local $/; <STDIN> };

# struct fscrypt_add_key_arg: the kernel writes the key's identifier over the zeros behind its kind.
my ($by_identifier, $version_2) = (2, 2);
my $argument = pack("L L x32 L L x32", $by_identifier, 0, length $key, 0) . $key;
sysopen(my $filesystem, $mount, 0) or die "$mount: $!\n";
ioctl($filesystem, 0xC0506617, $argument) or die "$mount: key not taken: $!\n";
my $identifier = substr $argument, 8, 16;

# struct fscrypt_policy_v2, names padded to 32 bytes.
my ($aes_256_xts, $aes_256_cts, $pad_32) = (1, 4, 3);
my $policy = pack("C4 x4 a16", $version_2, $aes_256_xts, $aes_256_cts, $pad_32, $identifier);
sysopen(my $directory, $folder, 0) or die "$folder: $!\n";
ioctl($directory, 0x800C6613, $policy) or die "$folder: not encrypted: $!\n";
