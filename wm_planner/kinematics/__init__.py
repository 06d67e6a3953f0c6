"""Where the links of a robot are: forward kinematics and distances, by URDF and MuJoCo."""
