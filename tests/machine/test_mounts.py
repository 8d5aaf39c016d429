"""Which mounted file systems may be asked for their space."""

from watchman_mcp.machine.mounts import local_mounts, read_mounts

MOUNTS = r"""1 1 0:2 / / rw - rootfs rootfs rw
20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 0:20 / /proc rw - proc proc rw
22 20 0:21 / /run rw - tmpfs tmpfs rw
23 22 8:17 / /run/media/my\040disk rw - vfat /dev/sdb1 rw
24 20 8:1 /srv/a /var/lib/bound rw - ext4 /dev/sda1 rw
25 20 0:30 / /net rw - nfs4 server:/export rw
26 25 8:33 / /net/below rw - xfs /dev/sdc1 rw
27 20 7:0 / /snap/core/1 ro - squashfs /dev/loop0 ro
28 20 7:1 / /mnt/image rw - ext4 /dev/loop1 rw
29 20 0:31 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw
30 20 8:49 / /covered rw - ext4 /dev/sdd1 rw
31 30 0:32 / /covered rw - cifs //server/share rw
32 20 0:33 / /boot rw - autofs systemd-1 rw
33 32 8:65 / /boot rw - vfat /dev/sde1 rw
34 20 0:34 / /mnt/far rw - fuse.sshfs host:/ rw
35 20 0:35 / /mnt/farther rw - f2fs /dev/sdf1 rw
36 20 0:36 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
""".rstrip("\n")


def test_only_local_file_systems_on_safe_paths_are_asked() -> None:
    asked, behind = local_mounts(read_mounts(MOUNTS))

    expected = ["/", "/boot", "/mnt/farther", "/var/lib/bound", "/run/media/my disk"]
    assert [mount.point for mount in asked] == expected
    assert [mount.point for mount in behind] == ["/net/below"]


def test_the_root_of_a_container_is_asked_though_it_is_an_overlay() -> None:
    asked, _ = local_mounts(
        read_mounts("50 40 0:40 / / rw - overlay overlay rw\n51 50 0:41 / /x rw - overlay o rw")
    )

    assert [mount.point for mount in asked] == ["/"]


def test_local_disks_of_a_machine_whose_root_is_remote_are_asked() -> None:
    asked, behind = local_mounts(
        read_mounts("1 1 0:9 / / rw - nfs s:/ rw\n2 1 8:1 / /disk rw - ext4 /dev/sda1 rw")
    )

    assert ([mount.point for mount in asked], behind) == (["/disk"], [])


def test_a_root_that_is_its_own_parent_is_not_hidden_by_itself() -> None:
    asked, _ = local_mounts(read_mounts("1 1 8:1 / / rw - ext4 /dev/sda1 rw"))

    assert [mount.point for mount in asked] == ["/"]


def test_odd_lines_of_mountinfo_are_passed_over() -> None:
    assert read_mounts("\n1 2 3\n - \n1 2 0:1 / /a rw -\n") == []
